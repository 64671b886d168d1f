export * from './digest.ts'
export * from './errors.ts'
