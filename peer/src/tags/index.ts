export * from './catalog.ts'
export * from './hint-recall.ts'
export * from './manifests.ts'
export * from './tags.ts'
