/** The ramdisk's C program, compiled for this host with the address and undefined-behaviour sanitizers, and run on plain files. */
import {execFile, execFileSync} from 'node:child_process'
import {mkdtempSync, readdirSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'

const SOURCES = join(import.meta.dirname, '../../pxe/ramdisk/src')
const FLAGS = ['-std=c17', '-O1', '-g', '-pthread', '-D_GNU_SOURCE', '-fsanitize=address,undefined', '-fno-sanitize-recover=all']

export type NativeResult = {readonly status: number; readonly stdout: string; readonly stderr: string}
export type Native = (args: readonly string[], input?: Uint8Array) => Promise<NativeResult>

/** A folder of its own under the temporary directory, for the program and for the test's files. The caller removes it. */
export function compileNative(): {readonly folder: string; readonly native: Native} {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-native-'))
  const program = join(folder, 'ingot-ramdisk')
  const sources = readdirSync(SOURCES).filter(file => file.endsWith('.c'))
  execFileSync('gcc', [...FLAGS, '-o', program, ...sources], {cwd: SOURCES})
  const native: Native = (args, input) =>
    new Promise((resolve, reject) => {
      const env = {...process.env, ASAN_OPTIONS: 'detect_leaks=0'} // each run ends with its process
      const child = execFile(program, args, {encoding: 'utf8', maxBuffer: 64 * 1_048_576, env}, (error, stdout, stderr) => {
        const status = error === null ? 0 : error.code
        if (typeof status === 'number') resolve({status, stdout, stderr})
        else reject(new Error(`ingot-ramdisk died: ${stderr}`, {cause: error}))
      })
      child.stdin?.end(input)
    })
  return {folder, native}
}
