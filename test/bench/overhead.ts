import { parseArgs } from 'node:util'
import { createScratch, type Lab } from '../harness/lab.ts'
import { pullWithSkopeo } from '../harness/clients/skopeo.ts'
import { startPeer, upstreamAt } from '../harness/darter.ts'
import { noiseImage } from '../harness/images.ts'
import type { Mirror } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'
import { startRegistry } from '../harness/registry.ts'

/**
 * What one peer adds to a pull by skopeo: cold and warm pulls through a peer and pulls straight from the same
 * registry, in the same run, in turns. Prints seconds and ratios of medians; `--json` prints one JSON object alone.
 */

const MIB = 1024 * 1024

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
    size: { type: 'string', default: '256' },
  },
})

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return ((sorted[middle] ?? 0) + (sorted[(sorted.length - 1) >> 1] ?? 0)) / 2
}

async function measure(lab: Lab) {
  const registry = await startRegistry(lab)
  const size = Number(values.size) * MIB
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
  for (let round = 0; round < Number(values.rounds); round++) {
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

const lab = createScratch('overhead')
try {
  const result = await measure(lab)
  if (values.json) console.log(JSON.stringify(result))
  else {
    console.log(`image of ${(result.imageBytes / MIB).toFixed(0)} MiB, medians of ${values.rounds} rounds`)
    console.log(`straight from the registry  ${result.medians.direct.toFixed(3)} s`)
    console.log(
      `cold, through a peer        ${result.medians.cold.toFixed(3)} s  (${result.coldOverDirect.toFixed(2)}x)`,
    )
    console.log(
      `warm, through a peer        ${result.medians.warm.toFixed(3)} s  (${result.warmOverDirect.toFixed(2)}x)`,
    )
  }
} finally {
  await lab.close()
}
