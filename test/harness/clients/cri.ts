import { join } from 'node:path'
import { credentials, loadPackageDefinition, makeGenericClientConstructor } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import type { Login } from '../mirror.ts'

/** What the kubelet does when it wants an image. */
export interface Cri {
  /** Returns the runtime's own name of the image. */
  pull(image: string, login?: Login): Promise<string>
  close(): void
}

/** Connects to a container runtime's socket. */
export function connectCri(socket: string): Cri {
  const definition = loadSync(join(import.meta.dirname, 'cri.proto'), { keepCase: true })
  loadPackageDefinition(definition)
  const service = definition['runtime.v1.ImageService']
  if (service === undefined || !('PullImage' in service)) throw new Error('cri.proto has no ImageService')
  const method = service['PullImage']
  const Client = makeGenericClientConstructor({ PullImage: method }, 'runtime.v1.ImageService')
  const client = new Client(`unix:${socket}`, credentials.createInsecure())
  return {
    pull: (image, login) =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          method.path,
          method.requestSerialize,
          method.responseDeserialize,
          { image: { image }, ...(login === undefined ? {} : { auth: login }) },
          { deadline: Date.now() + 120_000 },
          (error: Error | null, answer?: unknown) => {
            if (error !== null) return reject(error)
            if (typeof answer === 'object' && answer !== null && 'image_ref' in answer) {
              return resolve(String(answer.image_ref))
            }
            reject(new Error('the runtime pulled nothing'))
          },
        )
      }),
    close: () => client.close(),
  }
}
