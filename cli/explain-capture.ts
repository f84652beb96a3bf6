/** How `ingot explain --pcap` shows a capture: packet by packet, then what went wrong. */
import {reasonText} from './explain-text.ts'
import {printLine, visible} from './output.ts'
import type {CaptureReport} from './shapes.ts'

type Shown = CaptureReport['shown'][number]

export function showCapture(report: CaptureReport, file: string): void {
  const machines = report.machines.length === 1 ? '1 machine' : `${report.machines.length} machines`
  printLine(`${visible(file)}: ${report.packets} packets in ${report.seconds.toFixed(3)} s, ${machines}`)
  for (const note of report.notes) printLine(`  note: ${visible(note)}`)
  const several = report.machines.length > 1
  let before: Shown | undefined
  for (const packet of report.shown) {
    showPacket(packet, several && packet.mac !== before?.mac ? packet.mac : null, before)
    before = packet.ingot ? packet : before
  }
  const left = Object.entries(report.left_out).map(([kind, count]) => `${count} ${visible(kind)}`)
  if (left.length > 0) printLine(`\nNot shown: ${left.join(', ')}.`)
  showFindings(report)
}

/** A client repeats itself, and so do the reasons: only what is new is shown. */
function showPacket(packet: Shown, mac: string | null, before: Shown | undefined): void {
  if (mac !== null) printLine(`\n${mac}`)
  const {number, at_s, what, ingot, vlan} = packet
  const tag = vlan === null ? '' : ` [VLAN ${vlan}]`
  printLine(`${String(number).padStart(5)} ${at_s.toFixed(3).padStart(9)}  ${visible(what)}${tag}`)
  if (!ingot) return
  const indent = ' '.repeat(17)
  const file = ingot.file ? `, file ${visible(ingot.file)}` : ''
  printLine(`${indent}Ingot: ${visible(ingot.answer)}${file}`)
  const known = new Set((before?.ingot?.reasons ?? []).map(reasonText))
  const reasons = ingot.reasons.map(reasonText)
  // The last reason is the one that settled it.
  const fresh = reasons.filter((text, index) => !known.has(text) || index === reasons.length - 1)
  for (const text of fresh) printLine(`${indent}  ${text}`)
}

function showFindings({findings}: CaptureReport): void {
  if (findings.length === 0) return printLine('\nNothing went wrong that can be seen here.')
  printLine('\nWhat went wrong')
  for (const {cause, mac, machine, weight, title, detail, packets, mend} of findings) {
    const who = machine === null ? (mac ?? 'the link') : `${visible(machine)} (${mac})`
    printLine(`\n  ${cause}${weight === 'failure' ? '' : ` (${weight})`}  ${who}: ${visible(title)}`)
    printLine(`    seen  ${visible(detail)}`)
    if (packets.length > 0) printLine(`    in    packet${packets.length === 1 ? '' : 's'} ${packets.join(', ')}`)
    printLine(`    → ${visible(mend)}`)
  }
}
