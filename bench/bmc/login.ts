/** What the simulated BMCs of the benchmark take. */
export const LOGIN = {username: 'bench', password: 'bench-0815'} as const
