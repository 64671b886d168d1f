import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { storeConformance } from '../src/conformance.ts'
import type { ReadVerification } from '../src/contract.ts'
import { createMemoryStore } from '../src/memory-store.ts'
import { diskStore } from './support.ts'

storeConformance('memory store', async options => {
  const store = createMemoryStore(options)
  return { store, dispose: () => store.close() }
})

for (const verify of ['once', 'always'] satisfies ReadVerification[]) {
  storeConformance(`disk store, verify ${verify}`, async options => {
    const directory = await mkdtemp(join(tmpdir(), 'darter-store-'))
    const store = await diskStore(directory, { ...options, verify })
    return {
      store,
      dispose: async () => {
        await store.close()
        await rm(directory, { recursive: true })
      },
    }
  })
}
