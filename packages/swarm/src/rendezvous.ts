/**
 * The one of the nodes that a key belongs to, by rendezvous hashing (highest random weight): keys are spread evenly, and
 * when a node comes or goes only its own keys change hands. Undefined when there are no nodes. Takes a step for each node.
 */
export function rendezvous(nodes: Iterable<string>, key: string): string | undefined {
  let best: string | undefined
  let most = -1
  for (const node of nodes) {
    const weight = hash(`${node} ${key}`)
    // The same weight twice is settled by name, so that the order of the nodes never counts.
    if (weight > most || (weight === most && best !== undefined && node > best)) {
      best = node
      most = weight
    }
  }
  return best
}

/** The nodes that a key belongs to if there may be so many, the first one before the others; see {@link rendezvous}. */
export function rendezvousRanking(nodes: Iterable<string>, key: string, count: number): string[] {
  return [...nodes]
    .map(node => ({ node, weight: hash(`${node} ${key}`) }))
    .toSorted((a, b) => b.weight - a.weight || (a.node > b.node ? -1 : 1))
    .slice(0, count)
    .map(({ node }) => node)
}

/** 32 bits of FNV-1a, mixed as MurmurHash3 ends: the bits of texts that differ little at their ends are unlike too. */
function hash(text: string): number {
  let bits = 0x811c9dc5
  for (let i = 0; i < text.length; i++) bits = Math.imul(bits ^ text.charCodeAt(i), 0x01000193)
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35)
  return (bits ^ (bits >>> 16)) >>> 0
}
