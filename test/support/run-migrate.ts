/** A process that migrates the database of its first argument, to be killed in the middle. */
import {createLog} from '../../lib/log.ts'
import {migrateDatabase} from '../../lib/schema-state.ts'

const applied = await migrateDatabase({url: process.argv[2] ?? '', log: createLog('migrate', 'warn')})
process.stdout.write(`${JSON.stringify({applied})}\n`)
