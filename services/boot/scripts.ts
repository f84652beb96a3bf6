/** The iPXE scripts. Pure: target in, text out. Every value that did not come from us is quoted or refused before it gets here. */
import type {BootStage} from './token.ts'

/** What every iPXE gets from the constant DHCP URL: it names itself and asks again. `netX` is the interface it booted from. */
export function renderEntryScript(bootUrl: string): string {
  const query = 'uuid=${uuid}&platform=${platform}&buildarch=${buildarch}&serial=${serial:uristring}&product=${product:uristring}'
  return script([
    'echo Ingot: ${netX/mac} asks what to boot',
    `chain --autofree ${bootUrl}/ipxe/\${netX/mac:hexhyp}?${query} || exit 1`,
  ])
}

/** Leaves the network and goes on to the next boot device. `exit 1`, since a plain `exit` lands UEFI in its setup. */
export function renderLocalScript(because: string): string {
  return script([`echo Ingot: booting from the local disk: ${plain(because)}`, 'exit 1'])
}

export type RamdiskScript = {
  readonly bootUrl: string
  readonly kernelSha256: string
  readonly initrdSha256: string
  readonly stage: Exclude<BootStage, 'first_boot'>
  readonly token: string
  readonly mac: string
  readonly consoles: readonly string[]
}

/** Boots the ramdisk. A broken download is tried again here, since asking for this script a second time would end the attempt. */
export function renderRamdiskScript(input: RamdiskScript): string {
  const args = [
    ...input.consoles.map(name => `console=${name}`),
    'quiet',
    'panic=30',
    'net.ifnames=0',
    `ingot.url=${input.bootUrl}`,
    `ingot.token=${input.token}`,
    `ingot.mac=${input.mac}`,
    `ingot.stage=${input.stage}`,
  ]
  return script([
    `echo Ingot: starting the ramdisk to ${input.stage}`,
    ':fetch',
    `kernel --name vmlinuz ${input.bootUrl}/artefacts/${input.kernelSha256} initrd=initrd ${args.join(' ')} || goto again`,
    `initrd --name initrd ${input.bootUrl}/artefacts/${input.initrdSha256} || goto again`,
    'boot || goto again',
    ':again',
    'echo Ingot: a download failed; trying again in 3 s',
    'imgfree',
    'sleep 3',
    'goto fetch',
  ])
}

function script(lines: readonly string[]): string {
  return `#!ipxe\n${lines.join('\n')}\n`
}

/** Text for `echo`: nothing that iPXE could expand or take for an operator. */
function plain(text: string): string {
  return text.replace(/[^\w .,:()/-]/g, ' ')
}
