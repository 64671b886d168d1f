/** A source of numbers in [0, 1); production passes a real one, tests and the simulator a seeded one. */
export type Random = () => number
