/**
 * The iPXE scripts that Ingot writes, followed as iPXE follows them: labels and goto, `||`, settings in `${…}`. Pure: the caller fetches
 * and waits. A line that iPXE would refuse ends the script, as it does there; a command that Ingot does not use is one.
 */

export type Settings = Readonly<Record<string, string>>

/** What the firmware does next. */
export type ScriptStep =
  | {readonly do: 'chain'; readonly url: string}
  | {readonly do: 'fetch'; readonly what: 'kernel' | 'initrd'; readonly url: string; readonly commandLine: string}
  | {readonly do: 'sleep'; readonly seconds: number}
  | {readonly do: 'boot'; readonly commandLine: string}
  | {readonly do: 'exit'; readonly code: number}

export type Script = {
  /** @param succeeded how the step before went; true for the first */
  next(succeeded: boolean): ScriptStep
}

/** More steps than any script of ours takes without fetching something: a loop that would never end. */
const STEPS_AT_MOST = 10_000

export function readScript(text: string, settings: Settings): Script {
  const lines = text.split('\n').map(line => line.trim())
  if (lines[0] !== '#!ipxe') throw new Error('not an iPXE script: its first line is not #!ipxe')
  const labels = new Map(lines.flatMap((line, at) => (line.startsWith(':') ? [[line.slice(1), at] as const] : [])))
  let at = 1
  let otherwise: string | undefined
  let commandLine = ''
  let steps = 0

  function jump(label: string): void {
    const to = labels.get(label)
    if (to === undefined) throw new Error(`the script goes to '${label}', which it does not have`)
    at = to
  }

  /** Runs what stands after `||`, or ends the script where nothing does (https://ipxe.org/scripting). */
  function fail(): ScriptStep | undefined {
    const alternative = otherwise
    otherwise = undefined
    return alternative === undefined ? {do: 'exit', code: 1} : run(alternative)
  }

  function run(line: string): ScriptStep | undefined {
    const [command = '', ...words] = line.split(/\s+/)
    switch (command) {
      case 'echo':
      case 'imgfree':
        return undefined
      case 'goto':
        jump(words[0] ?? '')
        return undefined
      case 'sleep':
        return {do: 'sleep', seconds: Number(words[0] ?? 0)}
      case 'exit':
        return {do: 'exit', code: Number(words[0] ?? 0)}
      case 'chain':
        return {do: 'chain', url: operandOf(words)}
      case 'boot':
        return {do: 'boot', commandLine}
      case 'kernel':
      case 'initrd': {
        const url = operandOf(words)
        if (command === 'kernel') commandLine = words.slice(words.indexOf(url) + 1).join(' ')
        return {do: 'fetch', what: command, url, commandLine}
      }
      default:
        throw new Error(`iPXE would be given a command that this reading of it does not know: ${line}`)
    }
  }

  return {
    next(succeeded) {
      if (!succeeded) {
        const step = fail()
        if (step) return step
      }
      for (;;) {
        if (++steps > STEPS_AT_MOST) throw new Error('the script never comes to an end')
        const line = lines[at++]
        if (line === undefined) return {do: 'exit', code: 0}
        if (line === '' || line.startsWith('#') || line.startsWith(':')) continue
        const [first = '', alternative] = expand(line, settings).split(/\s+\|\|\s+/)
        otherwise = alternative
        const step = run(first)
        if (step) return step
      }
    },
  }
}

/** `${name}`, `${name:type}`: unknown settings are empty, as in iPXE. */
function expand(line: string, settings: Settings): string {
  return line.replace(/\$\{([^}]*)\}/g, (_, name: string) => settings[name] ?? settings[name.split(':')[0] ?? ''] ?? '')
}

/** The first word that is no option; `--name` takes a value. */
function operandOf(words: readonly string[]): string {
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? ''
    if (word === '--name') index++
    else if (!word.startsWith('--')) return word
  }
  throw new Error(`nothing to fetch in: ${words.join(' ')}`)
}

/** `key=value` words of a kernel command line that begin with `ingot.`, without that. */
export function readCommandLine(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split(/\s+/).flatMap(word => {
      const match = /^ingot\.(\w+)=(.*)$/.exec(word)
      return match ? [[match[1] ?? '', match[2] ?? '']] : []
    }),
  )
}
