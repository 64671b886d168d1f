import type { UrlPattern } from '@darter/oci'
import type { S3Credentials } from '@darter/origin'
import type { PrefetchConfig } from './download/prefetch.ts'

/**
 * What a peer is told when it is made: every value checked, every size in bytes, every time in milliseconds, every
 * path absolute. The command line builds it from flags, environment, file and defaults; tests write it by hand.
 */
export interface PeerConfig {
  /** The libp2p private key of this peer; made at the first start (0600, its directory 0700). */
  readonly identityFile: string
  readonly door: DoorConfig
  /** Undefined: there is no forward proxy. */
  readonly proxy: ProxyConfig | undefined
  readonly admin: ListenAddress
  /** In the order of the configuration; names and hosts are unique over all of them. */
  readonly upstreams: readonly UpstreamConfig[]
  /** Name of the upstream for requests that name none; undefined: such requests are refused. */
  readonly defaultUpstream: string | undefined
  readonly urls: UrlConfig
  /** A docker `config.json` with credentials for any upstream whose own are not configured; undefined: none. */
  readonly dockerConfigFile: string | undefined
  readonly swarm: PeerSwarmConfig
  readonly store: StoreConfig
  readonly tags: TagConfig
  readonly access: AccessConfig
  readonly transfers: TransferConfig
  readonly prefetch: PrefetchConfig
  /** After a request to stop, how long running responses may take to end, in ms. */
  readonly graceMs: number
}

/** Where a server listens. */
export interface ListenAddress {
  /** IP address or host name. Loopback unless configured otherwise. */
  readonly host: string
  /** 0: any free port, chosen by the operating system. */
  readonly port: number
}

/** The registry door for clients on this machine. */
export interface DoorConfig extends ListenAddress {
  /** Further ports, on the same host, where every request is for one upstream. */
  readonly upstreamPorts: readonly { readonly port: number; readonly upstream: string }[]
}

/** The forward proxy for clients that have a proxy to be configured, such as nydusd. */
export interface ProxyConfig extends ListenAddress {
  /** Origins, `https://host[:port]` or `http://host[:port]`, that clients may reach besides the upstreams. */
  readonly tunnelHosts: readonly string[]
  /** Names or hosts of upstreams whose TLS ends at the proxy. */
  readonly interceptHosts: readonly string[]
  /** Key and certificate of the authority for that (PEM, 0600); made at the first start with intercepted hosts. */
  readonly authorityFile: string
}

/** Where images come from at first. */
export type UpstreamConfig = RegistryUpstreamConfig | DirectoryUpstreamConfig | S3UpstreamConfig

/** An OCI registry over HTTP. */
export interface RegistryUpstreamConfig {
  readonly kind: 'registry'
  /** As it stands in the path form and in `?ns=`, such as `docker.io`: a lower-case host name with an optional port. */
  readonly name: string
  /** Other names that clients use for it, such as `registry-1.docker.io`; `host` or `host:port`, lower case. */
  readonly hosts: readonly string[]
  /** `https://host[:port][/path]` without a trailing slash; `http://` only where the configuration says so. */
  readonly url: string
  /** PEM file of certificate authorities that are trusted for this upstream instead of the system's. */
  readonly caFile: string | undefined
  /** Used for callers that bring no credentials of their own. Never logged. */
  readonly credentials: UpstreamCredentials | undefined
  /** A docker `config.json` for this upstream alone; goes before {@link PeerConfig.dockerConfigFile}. */
  readonly dockerConfigFile: string | undefined
  /** Connections to one of its hosts at the same moment; more requests wait. Undefined: the origin's own default. */
  readonly maxConnections: number | undefined
  /** Everyone who reaches the door may read what is cached: the upstream is not asked about the caller. */
  readonly public: boolean
}

/** User name and password (or token) for an upstream. */
export interface UpstreamCredentials {
  readonly username: string
  readonly password: string
}

/** An OCI image layout in a directory (image-spec, image-layout.md). Readable by everyone who reaches the door. */
export interface DirectoryUpstreamConfig {
  readonly kind: 'oci-layout'
  readonly name: string
  readonly hosts: readonly string[]
  /** Absolute path of the directory that holds `oci-layout` and `index.json`. */
  readonly path: string
}

/**
 * A bucket of an S3-compatible object store, read by URLs (`s3://bucket/key`). Everyone who reaches the door reads it with
 * the credentials that are configured.
 */
export interface S3UpstreamConfig {
  readonly kind: 's3'
  readonly name: string
  readonly hosts: readonly string[]
  readonly bucket: string
  /** Only objects whose keys begin so may be read; '' for all. Ends in a slash otherwise. */
  readonly prefix: string
  /** `https://host[:port]`, or `http://` where the configuration says so. */
  readonly endpoint: string
  readonly region: string
  readonly pathStyle: boolean
  readonly caFile: string | undefined
  /** Undefined: requests are not signed. Never logged. */
  readonly credentials: S3Credentials | { readonly file: string; readonly profile: string } | undefined
  /** Connections to the endpoint at the same moment; undefined: 32. */
  readonly maxConnections: number | undefined
}

/** Which URLs may be read besides those of the upstreams' own hosts. */
export interface UrlConfig {
  readonly allow: readonly UrlPattern[]
  /** PEM file of certificate authorities that are trusted for these hosts instead of the system's. */
  readonly caFile: string | undefined
  /** Names of query parameters that do not count for what the content is, in any case; a `*` at the end stands for anything. */
  readonly ignoredQuery: readonly string[]
}

/** How this peer takes part in the swarm. */
export interface PeerSwarmConfig {
  /** IP address that the two swarm ports are bound to. */
  readonly host: string
  /** TCP port of libp2p; 0: any free one. */
  readonly port: number
  /** TCP port for chunk bodies; 0: any free one. */
  readonly dataPort: number
  /** IP addresses or host names that other peers are told to dial, instead of those that are bound. */
  readonly announce: readonly string[]
  /** Multiaddrs of the scheduler, each ending in `/p2p/<its id>`. Empty: the peer works alone. */
  readonly schedulers: readonly string[]
  /** File with the cluster key. Always there when `schedulers` is not empty. */
  readonly clusterKeyFile: string | undefined
  /** Failure or network domain of this machine, such as a rack; '' when not told. */
  readonly zone: string
  /** It fetches cold blobs for the whole cluster when the scheduler asks. */
  readonly seed: boolean
}

/** The chunk store on disk. */
export interface StoreConfig {
  /** Directory of the store; made when it is missing (0700). */
  readonly dir: string
  readonly quota: StoreQuota
  /** Eviction starts when more than this fraction of the quota is held (0..1). */
  readonly highWatermark: number
  /** Eviction ends at this fraction of the quota; less than {@link highWatermark}. */
  readonly lowWatermark: number
  /** `once`: a chunk's hash is checked at its first read after a start; `always`: at every read. */
  readonly verify: 'once' | 'always'
  /** How fast stored chunks are re-read and checked in the background, in bytes per second; 0: never. */
  readonly scrubBytesPerSecond: number
}

/** The most chunk data that a store holds: bytes, or a fraction (0..1) of the size of the file system it lies on. */
export type StoreQuota = { readonly bytes: number } | { readonly diskFraction: number }

/** What tags stand for. */
export interface TagConfig {
  /** How long a resolved tag is used without asking the upstream, in ms; 0: always ask. */
  readonly ttlMs: number
  /** Resolutions are shared with the other peers through the scheduler. */
  readonly shareResolutions: boolean
}

/** Who may read cached content. */
export interface AccessConfig {
  /** How long an upstream's yes or no for a caller and a repository is remembered, in ms. */
  readonly ttlMs: number
}

/** Bounds on moving bytes. Rates are in bytes per second; 0: unlimited. */
export interface TransferConfig {
  /** Chunks sent to all other peers together. */
  readonly uploadBytesPerSecond: number
  /** What all other peers and origins together send. */
  readonly downloadBytesPerSecond: number
  /** What all origins together send. */
  readonly originBytesPerSecond: number
  /** Chunks sent to other peers at the same moment; fewer where the upload rate leaves too little for each. */
  readonly maxUploads: number
  /** Chunks fetched at the same moment, from peers and origins, over all downloads. */
  readonly maxDownloads: number
  /** An origin that sends no byte for this long is given up, in ms. */
  readonly progressTimeoutMs: number
}
