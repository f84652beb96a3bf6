/** What a handoff's programs find around them: nothing of Ingot's own environment, and the programs on one fixed path. */
import {accessSync, constants, statSync} from 'node:fs'
import {join} from 'node:path'
import {RUN_MARK} from './processes.ts'

export const DEFAULT_SEARCH_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The whole environment of a run's programs; a kind may add settings, never secrets: /proc shows it to the account's other processes. */
export function scrubbedEnvironment(runDir: string, searchPath: string): Record<string, string> {
  return {
    PATH: searchPath,
    HOME: runDir,
    TMPDIR: join(runDir, 'tmp'),
    LANG: 'C.UTF-8',
    LC_ALL: 'C.UTF-8',
    [RUN_MARK]: runDir,
  }
}

/** Those of `programs` that are not on the path. */
export function missingPrograms(programs: readonly string[], searchPath: string): string[] {
  const folders = searchPath.split(':').filter(folder => folder !== '')
  return programs.filter(program => !folders.some(folder => isExecutable(join(folder, program))))
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'EACCES' || code === 'ENOTDIR') return false
    throw error
  }
}
