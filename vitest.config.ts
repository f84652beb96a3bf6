/** Three projects by what they need: `unit` nothing, `integration` a PostgreSQL it starts itself, `lab` root, namespaces and QEMU. */
import {defineConfig} from 'vitest/config'

const shared = {environment: 'node' as const, pool: 'forks' as const, setupFiles: []}

export default defineConfig({
  test: {
    reporters: ['default'],
    projects: [
      {test: {...shared, name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000}},
      {
        test: {
          ...shared,
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          ...shared,
          name: 'lab',
          include: ['test/lab/**/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 900_000,
          fileParallelism: false,
          maxWorkers: 1,
        },
      },
    ],
  },
})
