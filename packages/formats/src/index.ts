/** What formats of images say about the order in which their blobs are needed. */
export * from './extent.ts'
export * from './hints.ts'
export * from './plan.ts'
