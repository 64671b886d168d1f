import { approximateBytes } from '@darter/runtime'
import { SingleBar } from 'cli-progress'
import type { Shares } from './source.ts'

/** Shows how a transfer goes on. */
export interface Progress {
  /** Bytes that are there, of all if they are known. */
  update(received: number, size: number | undefined): void
  shares(shares: Shares): void
  stop(): void
}

/** Over how long the speed is measured, in ms. */
const WINDOW_MS = 5000

/** Bytes per second over the last few seconds. @param now - a clock in ms. */
export function createSpeedometer(now: () => number): { add(received: number): number } {
  let samples: { readonly at: number; readonly received: number }[] = []
  return {
    add: received => {
      const at = now()
      samples.push({ at, received })
      const first = samples.findIndex(sample => at - sample.at <= WINDOW_MS)
      samples = samples.slice(Math.max(0, first))
      const oldest = samples[0]
      const ms = oldest === undefined ? 0 : at - oldest.at
      return oldest === undefined || ms === 0 ? 0 : ((received - oldest.received) * 1000) / ms
    },
  }
}

/** `3:05`, `1:02:00`; `-` for what cannot be told. */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds > 359_999) return '-'
  const whole = Math.round(seconds)
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const pad = (part: number) => String(part).padStart(2, '0')
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`
}

/** The part of the bytes that other peers gave, such as `75%`. */
export function peerShare({ fromDisk, fromPeers, fromOrigin }: Shares): string {
  const all = fromDisk + fromPeers + fromOrigin
  return all === 0 ? '-' : `${Math.round((100 * fromPeers) / all)}%`
}

/** A bar on a terminal: how much, how fast, how long yet, and the part that comes from peers. */
export function createBar(name: string, stream: NodeJS.WriteStream): Progress {
  const speedometer = createSpeedometer(() => performance.now())
  const bar = new SingleBar({
    stream,
    format: '{name} [{bar}] {done} of {all}  {rate}/s  {left} left  {peers} from peers',
    barsize: 20,
    hideCursor: true,
    clearOnComplete: true,
    fps: 5,
  })
  let peers = '-'
  let started = false
  return {
    update: (received, size) => {
      const rate = speedometer.add(received)
      const payload = {
        name: name.length > 24 ? `${name.slice(0, 21)}...` : name,
        done: approximateBytes(received),
        all: size === undefined ? '?' : approximateBytes(size),
        rate: approximateBytes(rate),
        left: formatSeconds(size === undefined ? Number.NaN : (size - received) / rate),
        peers,
      }
      if (started) bar.update(received, payload)
      else bar.start(size ?? 0, received, payload)
      if (size !== undefined) bar.setTotal(size)
      started = true
    },
    shares: shares => {
      peers = peerShare(shares)
    },
    stop: () => bar.stop(),
  }
}

/** Where nobody looks. */
export const NO_PROGRESS: Progress = { update: () => {}, shares: () => {}, stop: () => {} }
