#!/usr/bin/env node
import { enableCompileCache } from 'node:module'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'

// A peer: a young generation that grows with the rate of small objects takes 100 MiB and gains no speed.
const PEER_FLAGS = ['--semi-space-growth-factor=1']
// A scheduler: its objects are all small and live as long as a handshake, so that it would spend a third of its time on sorting them
// out, or as long as a connection, and with 10 000 peers it takes a second of pauses to mark those. So its young generation
// grows, and it marks when its heap has grown, not also whenever 64 MiB of messages came and went (buffers are outside of the
// heap), and not every 100 s because memory could be given back.
const SCHEDULER_FLAGS = ['--external-memory-accounted-in-global-limit', '--memory-reducer-gc-count=0']
for (const flag of process.argv[2] === 'scheduler' ? SCHEDULER_FLAGS : PEER_FLAGS) setFlagsFromString(flag)

// A third off the time to start. Beside the code rather than in a directory that others can write to; where this one
// cannot be written, nothing is cached.
enableCompileCache(join(import.meta.dirname, '..', 'node_modules', '.cache'))
const { main } = await import('./program.ts')

// Not process.exitCode: libraries leave timers behind that would keep a stopped program for another second.
process.exit(await main(process.argv.slice(2)))
