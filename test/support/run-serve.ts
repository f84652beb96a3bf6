/** `ingot serve` in a process of its own, with the arguments it is given. */
import {serveCommand} from '../../cli/serve.ts'

await serveCommand().parseAsync(process.argv.slice(2), {from: 'user'})
