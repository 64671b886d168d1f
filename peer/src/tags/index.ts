export * from './catalog.ts'
export * from './manifests.ts'
export * from './tags.ts'
