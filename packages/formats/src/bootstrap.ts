import { createTarDecoder } from 'modern-tar'

/** The largest file `image.boot` that is read, in bytes; and how much of its layer's tar is looked at for it. */
const MAX_BOOTSTRAP_BYTES = 64 * 1024 * 1024
const NAME = 'image/image.boot'

/**
 * The bootstrap in a nydus bootstrap layer, a gzip tar (nydus-snapshotter, pkg/converter, `BootstrapFileNameInLayer`).
 * @param layer - untrusted.
 * @returns undefined when there is none, it is larger than 64 MiB, or the layer is malformed.
 */
export async function unpackBootstrap(layer: Uint8Array): Promise<Uint8Array | undefined> {
  let unpacked = 0
  const bound = new TransformStream<Uint8Array, Uint8Array>({
    transform: (piece, controller) => {
      unpacked += piece.length
      if (unpacked > MAX_BOOTSTRAP_BYTES) controller.error(new RangeError('the layer is too large'))
      else controller.enqueue(piece)
    },
  })
  const entries = new Blob([Uint8Array.from(layer)])
    .stream()
    .pipeThrough(new DecompressionStream('gzip'))
    .pipeThrough(bound)
    .pipeThrough(createTarDecoder())
  try {
    for await (const { header, body } of entries) {
      if (header.name.replace(/^\.\//, '') !== NAME) {
        await body.cancel()
        continue
      }
      return new Uint8Array(await new Response(body).arrayBuffer())
    }
  } catch {
    // Whatever is wrong with it: nothing is known of the image then.
  }
  return undefined
}
