import { type Digest, isDigest, isRepositoryName, isTag } from '@darter/oci'
import type { Clock, Logger } from '@darter/runtime'
import { LRUCache } from 'lru-cache'
import { createJournal, type Journal, noJournal } from './journal.ts'

/** A repository at an upstream. */
export interface Place {
  /** The upstream's name. */
  readonly upstream: string
  readonly repository: string
}

/** What a digest is, as far as it was told. */
export interface Content {
  /** Bytes; undefined when nobody told. */
  readonly size?: number | undefined
  readonly mediaType?: string | undefined
}

/** What a tag stood for when the upstream was last asked. */
export interface TagRecord {
  readonly digest: Digest
  readonly size: number
  readonly mediaType: string
}

/**
 * What this peer has learnt of repositories: what tags stood for, which content belongs where, and how large it is.
 * Tags and manifests survive a restart; all of it is bounded, least recently used first.
 */
export interface Catalog {
  /** What a tag last stood for, for callers that accept `accept` (see {@link acceptMask}), else for any. */
  tag(place: Place, tag: string, accept: number): TagRecord | undefined
  /** `open`: the upstream said so to a caller without credentials. */
  setTag(place: Place, tag: string, accept: number, record: TagRecord, open: boolean): void
  dropTag(place: Place, tag: string): void
  /** What is known of content that belongs to the repository; undefined when it is not known to belong there. */
  member(place: Place, digest: Digest): Content | undefined
  /** Content that the upstream named as part of the repository. Lasts until the program ends. */
  setMember(place: Place, digest: Digest, content: Content): void
  /** Whether the manifest was read for this repository ({@link setManifest}). */
  hasManifest(place: Place, digest: Digest): boolean
  /** The manifests that are known, with their media types, the least recently used first; a digest comes once. */
  manifests(): ReadonlyMap<Digest, string>
  /** The content was deleted from the repository. */
  dropMember(place: Place, digest: Digest): void
  /** A manifest of the repository, and what it refers to. */
  setManifest(place: Place, digest: Digest, manifest: ManifestRecord, open: boolean): void
  /** When a caller without credentials was last known to be let in, ms since the Unix epoch. */
  openSince(place: Place): number | undefined
  setOpen(place: Place): void
  /** The repository is no longer open to callers without credentials. */
  setClosed(place: Place): void
  /** Writes what waits to disk. */
  close(): Promise<void>
}

/** A manifest as the catalog keeps it. */
export interface ManifestRecord {
  readonly size: number
  readonly mediaType: string
  readonly children: readonly (Content & { readonly digest: Digest; readonly size: number })[]
}

type Entry =
  | ({ readonly k: 'tag'; readonly t: string; readonly a: number; readonly d: Digest } & Common)
  | { readonly k: 'untag'; readonly u: string; readonly r: string; readonly t: string }
  | ({
      readonly k: 'manifest'
      readonly d: Digest
      readonly c: readonly (readonly [Digest, number])[]
    } & Common)
  | { readonly k: 'gone'; readonly u: string; readonly r: string; readonly d: Digest }
  | { readonly k: 'closed'; readonly u: string; readonly r: string }

interface Common {
  readonly u: string
  readonly r: string
  readonly s: number
  readonly m: string
  /** When the repository was open to everyone, ms since the Unix epoch; 0: not known to be. */
  readonly o: number
}

type TagEntry = Extract<Entry, { k: 'tag' }>
type ManifestEntry = Extract<Entry, { k: 'manifest' }>

const MAX_TAGS = 8192
const MAX_MANIFEST_CHILDREN = 65_536
const MAX_MEMBERS = 131_072
const MAX_REPOSITORIES = 8192
/** That an open repository still is, is written to disk at most this often. */
const REWRITE_OPEN_MS = 3_600_000

/**
 * Opens the catalog that is kept in `file`, or one in memory alone. A file that cannot be read, in part or at all,
 * is as good as none.
 */
export async function openCatalog(options: {
  readonly file?: string | undefined
  readonly clock: Clock
  readonly log: Logger
}): Promise<Catalog> {
  const { file, clock, log } = options
  const tags = new LRUCache<string, Map<number, TagEntry>>({ max: MAX_TAGS })
  const manifests = new LRUCache<string, ManifestEntry>({
    maxSize: MAX_MANIFEST_CHILDREN,
    sizeCalculation: entry => entry.c.length + 1,
  })
  const members = new LRUCache<string, Content>({ max: MAX_MEMBERS })
  const open = new LRUCache<string, number>({ max: MAX_REPOSITORIES })

  const at = (entry: { readonly u: string; readonly r: string }, ...more: string[]) =>
    [entry.u, entry.r, ...more].join('|')

  const apply = (entry: Entry): void => {
    switch (entry.k) {
      case 'tag': {
        const key = at(entry, entry.t)
        const byAccept = tags.get(key) ?? new Map<number, TagEntry>()
        byAccept.delete(entry.a)
        byAccept.set(entry.a, entry)
        tags.set(key, byAccept)
        members.set(at(entry, entry.d), { size: entry.s, mediaType: entry.m })
        break
      }
      case 'untag':
        tags.delete(at(entry, entry.t))
        break
      case 'manifest':
        manifests.set(at(entry, entry.d), entry)
        members.set(at(entry, entry.d), { size: entry.s, mediaType: entry.m })
        for (const [digest, size] of entry.c) {
          const key = at(entry, digest)
          members.set(key, { ...members.get(key), size })
        }
        break
      case 'gone':
        manifests.delete(at(entry, entry.d))
        members.delete(at(entry, entry.d))
        break
      case 'closed':
        open.delete(at(entry))
        return
    }
    if ('o' in entry && entry.o > (open.get(at(entry)) ?? 0)) open.set(at(entry), entry.o)
  }
  const snapshot = () => {
    const entries: Entry[] = []
    for (const entry of manifests.rvalues()) if (entry !== undefined) entries.push(entry)
    for (const byAccept of tags.rvalues()) if (byAccept !== undefined) entries.push(...byAccept.values())
    return entries.map(entry =>
      JSON.stringify('o' in entry && !open.has(at(entry)) ? { ...entry, o: 0 } : entry),
    )
  }
  const journal: Journal = file === undefined ? noJournal : createJournal({ file, log, snapshot })
  for (const line of await journal.load()) {
    const entry = parseEntry(line)
    if (entry !== undefined) apply(entry)
  }
  const record = (entry: Entry) => {
    apply(entry)
    journal.append(JSON.stringify(entry))
  }
  const where = ({ upstream, repository }: Place) => ({ u: upstream, r: repository })

  return {
    tag: (place, tag, accept) => {
      const byAccept = tags.get(at(where(place), tag))
      const entry = byAccept?.get(accept) ?? [...(byAccept?.values() ?? [])].at(-1)
      return entry && { digest: entry.d, size: entry.s, mediaType: entry.m }
    },
    setTag: (place, tag, accept, { digest, size, mediaType }, isOpen) => {
      const known = tags.get(at(where(place), tag))?.get(accept)
      if (isOpen) open.set(at(where(place)), clock.wall())
      const told = isOpen ? clock.wall() - REWRITE_OPEN_MS : 0
      if (known?.d === digest && known.m === mediaType && known.s === size && known.o >= told) return
      const o = isOpen ? clock.wall() : 0
      record({ k: 'tag', ...where(place), t: tag, a: accept, d: digest, s: size, m: mediaType, o })
    },
    dropTag: (place, tag) => {
      if (tags.has(at(where(place), tag))) record({ k: 'untag', ...where(place), t: tag })
    },
    member: (place, digest) => members.get(at(where(place), digest)),
    setMember: (place, digest, content) => {
      const key = at(where(place), digest)
      members.set(key, { ...members.get(key), ...content })
    },
    dropMember: (place, digest) => {
      if (members.has(at(where(place), digest))) record({ k: 'gone', ...where(place), d: digest })
    },
    hasManifest: (place, digest) => manifests.has(at(where(place), digest)),
    manifests: () => {
      const known = new Map<Digest, string>()
      for (const entry of manifests.rvalues()) if (entry !== undefined) known.set(entry.d, entry.m)
      return known
    },
    setManifest: (place, digest, manifest, isOpen) => {
      record({
        k: 'manifest',
        ...where(place),
        d: digest,
        s: manifest.size,
        m: manifest.mediaType,
        o: isOpen ? clock.wall() : 0,
        c: manifest.children.map(child => [child.digest, child.size] as const),
      })
      for (const { digest: child, ...content } of manifest.children) {
        members.set(at(where(place), child), content)
      }
    },
    openSince: place => open.get(at(where(place))),
    setOpen: place => {
      open.set(at(where(place)), clock.wall())
    },
    setClosed: place => {
      if (open.has(at(where(place)))) record({ k: 'closed', ...where(place) })
    },
    close: () => journal.close(),
  }
}

/** A line of the journal, checked; undefined for one that is torn or from elsewhere. */
function parseEntry(line: string): Entry | undefined {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  if (!isObject(value)) return undefined
  const { k, u, r, t, a, d, s, m, o, c } = value
  if (typeof u !== 'string' || typeof r !== 'string' || !isRepositoryName(r)) return undefined
  if (k === 'closed') return { k, u, r }
  if (k === 'untag') return typeof t === 'string' && isTag(t) ? { k, u, r, t } : undefined
  if (typeof d !== 'string' || !isDigest(d)) return undefined
  if (k === 'gone') return { k, u, r, d }
  if (!isCount(s) || !isCount(o) || typeof m !== 'string') return undefined
  if (k === 'tag') {
    return typeof t === 'string' && isTag(t) && isCount(a) ? { k, u, r, t, a, d, s, m, o } : undefined
  }
  if (k !== 'manifest' || !Array.isArray(c)) return undefined
  const children = c.flatMap((child: unknown): (readonly [Digest, number])[] => {
    if (!Array.isArray(child)) return []
    const [digest, size]: unknown[] = child
    return typeof digest === 'string' && isDigest(digest) && isCount(size) ? [[digest, size]] : []
  })
  return { k, u, r, d, s, m, o, c: children }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
