/** What a read request gets: a file, or an error at once. Pure, but for the manifest it is handed; the wire and `explain` both ask here. */
import {printable} from '../../lib/bytes.ts'
import type {Reason} from '../../lib/decision.ts'
import type {TftpFile} from './chunks.ts'
import {DEFAULT_TFTP_LIMITS, type TftpLimits} from './limits.ts'
import {negotiateOptions} from './options.ts'
import {TFTP_ERROR, type TftpRequest} from './packet.ts'

export type Read =
  | {readonly name: string; readonly file: TftpFile}
  | {readonly refused: 'mode_refused' | 'missing'; readonly name: string; readonly code: number; readonly message: string}

export function decideRead(request: TftpRequest, files: (name: string) => TftpFile | undefined): Read {
  const name = requestedName(request.name)
  if (request.mode !== 'octet') {
    return {refused: 'mode_refused', name, code: TFTP_ERROR.illegalOperation, message: 'only octet (binary) mode is served'}
  }
  const file = files(name)
  return file ? {name, file} : {refused: 'missing', name, code: TFTP_ERROR.fileNotFound, message: 'file not found'}
}

/** The same in words, with what the request's options come to. */
export function explainRead(
  request: TftpRequest,
  files: (name: string) => TftpFile | undefined,
  limits: TftpLimits = DEFAULT_TFTP_LIMITS,
): {readonly answer: string; readonly reasons: readonly Reason[]} {
  if (request.kind === 'wrq') {
    const because = 'this server only sends files'
    return {answer: `ERROR ${TFTP_ERROR.accessViolation}`, reasons: [{rule: 'read_only', because}]}
  }
  const read = decideRead(request, files)
  const shown = printable(read.name)
  if ('refused' in read) {
    const because = read.refused === 'missing' ? `no artefact is called '${shown}'` : read.message
    return {answer: `ERROR ${read.code}: ${read.message}`, reasons: [{rule: read.refused, because, source: 'artefacts'}]}
  }
  const {accepted, blockBytes} = negotiateOptions(request.options, read.file.sizeBytes, limits)
  const blocks = Math.floor(read.file.sizeBytes / blockBytes) + 1
  const options = accepted.map(pair => pair.join(' ')).join(', ')
  return {
    answer: options === '' ? 'DATA 1' : `OACK ${options}`,
    reasons: [
      {
        rule: 'file',
        because: `'${shown}' has ${read.file.sizeBytes} bytes: ${blocks} blocks of ${blockBytes}`,
        source: 'artefacts',
      },
    ],
  }
}

/** Firmware sends names as DHCP gave them, sometimes with the 0xFF that ended the option; curl and people lead with slashes. */
export function requestedName(name: string): string {
  return name.replace(/\u00ff+$/, '').replace(/^\/+/, '')
}
