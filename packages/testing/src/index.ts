/** Real programs for tests: install them, start and stop them, and the registry that most tests need. */
export { newerProgram, type NewerProgram } from './debian-trees.ts'
export * from './lab.ts'
export * from './object-store.ts'
export * from './programs.ts'
export * from './registry.ts'
export * from './run.ts'
export * from './until.ts'
