/** A lab that never cleans up: `node abandoned-lab.ts NAME RUN_DIR`. Prints one JSON line once its machine runs, then waits to be killed. */
import {createLabBmc} from '../../lab/bmc.ts'
import {createQemuMachine} from '../../lab/machine.ts'
import {createLabNetwork} from '../../lab/network.ts'

const [name = '', runDir = ''] = process.argv.slice(2)
const network = await createLabNetwork({name, bridgeAddress: '10.77.0.1/22', taps: 1, runDir})
const machine = await createQemuMachine({
  network,
  name: 'm0',
  tap: 'tap0',
  mac: '52:54:00:77:01:00',
  firmware: 'bios',
  memory_mb: 64,
  disks: [{size_bytes: 1024 * 1024, serial: 'D0'}],
  bmc: true,
})
const bmc = await createLabBmc({network, machine, address: '10.77.0.201'})
await bmc.ipmitool(['power', 'on'])
console.log(JSON.stringify({dir: network.dir, qemu: machine.pid()}))
setInterval(() => undefined, 60_000)
