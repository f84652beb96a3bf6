/**
 * What models of BMCs were seen to do otherwise than IPMI says, as a table. A quirk is learned from what happened, belongs to a model
 * (manufacturer, product, firmware: an update may mend it), is shown to people, and where `handling` says so changes how the next one is
 * spoken to.
 */

export const QUIRKS = {
  suite_17_refused: {means: 'does not take cipher suite 17', handling: 'suite 3 is asked for first'},
  suite_17_ignored: {means: 'stays silent when asked for cipher suite 17', handling: 'suite 3 is asked for first'},
  boot_option_0_refused: {means: 'refuses boot parameter 0, set in progress', handling: 'it is left out'},
  boot_option_3_refused: {means: 'refuses boot parameter 3, which keeps the choice longer than 60 s', handling: 'it is left out'},
  boot_option_4_refused: {means: 'refuses boot parameter 4, who has seen the choice', handling: 'it is left out'},
  boot_valid_dropped: {means: 'reads boot flags back as not valid', handling: null},
  boot_persistent_dropped: {means: 'drops the flag that a boot device stays', handling: null},
  boot_efi_dropped: {means: 'drops the flag for UEFI boot', handling: null},
  boot_device_ignored: {means: 'takes a boot device and reads back another', handling: null},
  order_ignored: {means: 'takes a power order and does nothing', handling: null},
  slow_power: {means: 'takes long to follow a power order', handling: 'its effect is waited for longer'},
  sdr_in_parts: {means: 'cannot answer a whole sensor record', handling: 'records are read in parts'},
  short_fru_reads: {means: 'answers short FRU reads only', handling: 'FRU is read in short pieces'},
} as const satisfies Record<string, {means: string; handling: string | null}>

export type Quirk = keyof typeof QUIRKS

export type SeenQuirk = {
  readonly quirk: Quirk
  readonly times: number
  readonly first_seen: Date
  readonly last_seen: Date
  /** The last occurrence in words. */
  readonly detail: string
}

/** A model's name as a key: `674/256 2.09`. */
export function modelKey(device: {manufacturer_id: number; product_id: number; firmware: string}): string {
  return `${device.manufacturer_id}/${device.product_id} ${device.firmware}`
}
