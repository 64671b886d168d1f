import manifest from '../package.json' with { type: 'json' }

/** Darter's version. */
export const VERSION: string = manifest.version
