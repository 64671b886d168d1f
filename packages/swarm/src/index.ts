export * from './bitfield.ts'
export * from './layout.ts'
