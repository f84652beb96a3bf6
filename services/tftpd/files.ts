/** What TFTP serves: the artefacts, each under its own name, and loaders also under their bare names, which is what DHCP hands out. */
import type {Artefacts} from '../artefacts/index.ts'
import type {TftpFile} from './chunks.ts'

export function artefactFiles(artefacts: Pick<Artefacts, 'lookup' | 'read'>): (name: string) => TftpFile | undefined {
  return name => {
    const artefact = artefacts.lookup(name) ?? artefacts.lookup(`loaders/${name}`)
    if (!artefact) return undefined
    const {sha256, size_bytes: sizeBytes} = artefact
    return {digest: sha256, sizeBytes, read: (position, length) => artefacts.read(sha256, position, length)}
  }
}
