/**
 * What a scheduler is told when it is made: every value checked, every time in milliseconds, every path absolute.
 * The command line builds it from flags, environment, file and defaults; tests write it by hand.
 */
export interface SchedulerConfig {
  /** The libp2p private key whose id peers pin; made at the first start (0600, its directory 0700). */
  readonly identityFile: string
  /** File with the cluster key that every peer must prove. */
  readonly clusterKeyFile: string
  /** Directory with the preheats, which outlive a restart; made with the first one (0700, its files 0600). */
  readonly preheatDir: string
  readonly listen: SchedulerListenConfig
  readonly admin: {
    /** IP address or host name. Loopback unless configured otherwise. */
    readonly host: string
    /** 0: any free port, chosen by the operating system. */
    readonly port: number
    /** File with the token of whoever may change something there; made at the first start (0600). */
    readonly tokenFile: string
  }
  /** After a request to stop, how long stopping may take, in ms. */
  readonly graceMs: number
}

/** Where peers reach the scheduler. */
export interface SchedulerListenConfig {
  /** IP address that the control port is bound to. */
  readonly host: string
  /** TCP port of libp2p; 0: any free one. */
  readonly port: number
  /** IP addresses or host names that are told to others, instead of those that are bound. */
  readonly announce: readonly string[]
  /** Peers at the same moment; more are turned away. 10 000 when left out. */
  readonly maxPeers?: number
}
