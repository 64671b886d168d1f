export * from './control.ts'
export * from './limits.ts'
export * from './link.ts'
