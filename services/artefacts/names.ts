/** What an artefact may be called, and what its name says about it. Pure. A name is a key of the manifest, never a path. */

export const ARTEFACT_KINDS = ['loader', 'kernel', 'initrd', 'image', 'image_lines', 'image_data', 'other'] as const
export type ArtefactKind = (typeof ARTEFACT_KINDS)[number]

const NAME_MAX = 200
const PART = /^[A-Za-z0-9][A-Za-z0-9._+-]*$/

/** Slash-separated parts that each begin with a letter or digit, so neither `..` nor a hidden or absolute name can be formed. */
export function isArtefactName(name: string): boolean {
  return name.length <= NAME_MAX && name.split('/').every(part => PART.test(part))
}

export function isSha256(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text)
}

const LAYOUT: readonly {readonly pattern: RegExp; readonly kind: ArtefactKind}[] = [
  {pattern: /^loaders\/[^/]+\.(kpxe|kkpxe|pxe|efi|lkrn)$/, kind: 'loader'},
  {pattern: /^ramdisk\/vmlinuz$/, kind: 'kernel'},
  {pattern: /^ramdisk\/initrd$/, kind: 'initrd'},
  {pattern: /^ramdisk\/tools$/, kind: 'other'},
  {pattern: /^images\/[^/]+\/manifest\.json$/, kind: 'image'},
  {pattern: /^images\/[^/]+\/manifest\.lines$/, kind: 'image_lines'},
  {pattern: /^images\/[^/]+\/data$/, kind: 'image_data'},
]

/** The kind of a file in a build's output directory, by its place there; undefined when it is not an artefact. */
export function kindOfBuiltFile(relativePath: string): ArtefactKind | undefined {
  return LAYOUT.find(row => row.pattern.test(relativePath))?.kind
}
