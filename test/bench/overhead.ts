import { parseArgs } from 'node:util'
import { createScratch, type Lab, startRegistry } from '@darter/testing'
import { pullWithSkopeo } from '../harness/clients/skopeo.ts'
import { startPeer, upstreamAt } from '../harness/darter.ts'
import { noiseImage } from '../harness/images.ts'
import type { Mirror } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return ((sorted[middle] ?? 0) + (sorted[(sorted.length - 1) >> 1] ?? 0)) / 2
}

async function measure(lab: Lab, rounds: number, size: number) {
  const registry = await startRegistry(lab)
  const image = noiseImage(lab.makeDir('image'), 'overhead', [size / 2, size / 4, size / 8, size / 8])
  await pushImage(registry.url, 'library/app', 'v1', image)
  const direct: Mirror = { address: registry.address, prefix: '' }
  const pull = async (mirror: Mirror) => {
    const started = performance.now()
    await pullWithSkopeo(lab, mirror, 'library/app', 'v1', image, { verify: false })
    return (performance.now() - started) / 1000
  }
  await pull(direct)
  const seconds = { direct: [] as number[], cold: [] as number[], warm: [] as number[] }
  for (let round = 0; round < rounds; round++) {
    seconds.direct.push(await pull(direct))
    const peer = await startPeer(lab, { name: `peer-${round}`, upstreams: [upstreamAt(registry.address)] })
    seconds.cold.push(await pull(peer.mirror))
    seconds.warm.push(await pull(peer.mirror))
    await peer.daemon.stop()
  }
  const medians = {
    direct: median(seconds.direct),
    cold: median(seconds.cold),
    warm: median(seconds.warm),
  }
  return {
    imageBytes: image.bytes,
    seconds,
    medians,
    coldOverDirect: medians.cold / medians.direct,
    warmOverDirect: medians.warm / medians.direct,
  }
}

/**
 * What one peer adds to a pull by skopeo: cold and warm pulls through a peer and pulls straight from the same
 * registry, in the same run, in turns. Prints seconds and ratios of medians; `--json` prints one JSON object alone.
 */
export async function measureOverhead(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '5' },
      'size-mib': { type: 'string', default: '256' },
    },
  })
  const lab = createScratch('overhead')
  try {
    const result = await measure(lab, Number(values.rounds), Number(values['size-mib']) * MIB)
    const { medians, coldOverDirect, warmOverDirect, imageBytes } = result
    if (values.json) {
      console.log(JSON.stringify(result))
      return
    }
    console.log(`image of ${(imageBytes / MIB).toFixed(0)} MiB, medians of ${values.rounds} rounds`)
    console.log(`straight from the registry  ${medians.direct.toFixed(3)} s`)
    console.log(`cold, through a peer        ${medians.cold.toFixed(3)} s  (${coldOverDirect.toFixed(2)}x)`)
    console.log(`warm, through a peer        ${medians.warm.toFixed(3)} s  (${warmOverDirect.toFixed(2)}x)`)
  } finally {
    await lab.close()
  }
}
