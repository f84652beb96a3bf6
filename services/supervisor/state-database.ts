/** Reaches the database of a configuration from a command that is not the server: the named one, a running Ingot's, or its own start. */
import type {Config} from '../../lib/config.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {embeddedUrl, startEmbeddedPostgres} from './embedded-postgres.ts'

/**
 * @param alone whether a running Ingot is in the way: then the embedded database is only used while none runs
 * @throws IngotError DATABASE_LOCKED when `alone` and an Ingot runs
 */
export async function withStateDatabase<T>(
  config: Config,
  options: {readonly alone: boolean; readonly log: Log},
  work: (url: string) => Promise<T>,
): Promise<T> {
  if (config.databaseUrl) return await work(config.databaseUrl.reveal())
  const own = await startUnlessRunning(config, options)
  try {
    return await work(own?.url ?? embeddedUrl(config.stateDir))
  } finally {
    await own?.stop()
  }
}

async function startUnlessRunning(config: Config, options: {readonly alone: boolean; readonly log: Log}) {
  try {
    return await startEmbeddedPostgres({stateDir: config.stateDir, user: config.user, log: options.log})
  } catch (error) {
    if (options.alone || !(error instanceof IngotError) || error.code !== 'DATABASE_LOCKED') throw error
    return undefined
  }
}
