import { once } from 'node:events'
import {
  Agent,
  createServer,
  type IncomingMessage,
  request as httpRequest,
  type ServerResponse,
} from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Lab } from '@darter/testing'
import { closeServer, listen } from './listen.ts'

/** A request as the origin saw it. */
export interface MeteredRequest {
  readonly method: string
  /** Path and query. */
  readonly path: string
  readonly range: string | undefined
  /** Counted up while the response runs: bytes of the body that were sent. */
  bodyBytes: number
  /** 0 until the response starts. */
  status: number
}

/** What goes wrong with one response. Byte counts are of the body. */
export type Fault =
  | {
      readonly kind: 'status'
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
    }
  /** Sends nothing more and keeps the connection. */
  | { readonly kind: 'stall'; readonly afterBytes: number }
  /** Cuts the connection. */
  | { readonly kind: 'reset'; readonly afterBytes: number }
  /** Ends in order, but short: the announced length is the short one. */
  | { readonly kind: 'truncate'; readonly afterBytes: number }
  /** One bit is wrong. */
  | { readonly kind: 'corrupt'; readonly atByte: number }
  /** Answers with the whole instead of the range. */
  | { readonly kind: 'ignore-range' }

/** Picks the fault for a request, or none. `index` counts the requests since the rule was set. */
export type FaultRule = (request: MeteredRequest, index: number) => Fault | undefined

/** Stands before a real registry, counts what it sends, and breaks it on demand: the measure "at the origin". */
export interface Meter {
  /** `127.0.0.1:port` */
  readonly address: string
  readonly url: string
  readonly requests: readonly MeteredRequest[]
  /** Bytes of all response bodies that `filter` accepts. */
  bodyBytes(filter?: (request: MeteredRequest) => boolean): number
  /** The most connections that were open at the same moment since the last {@link reset}. */
  readonly peakConnections: number
  /** The most blobs, or parts of them, that were being sent at the same moment since the last {@link reset}. */
  readonly peakReads: number
  /** Forgets the requests counted so far. */
  reset(): void
  /** Sets or clears the rule for faults. */
  setFault(rule: FaultRule | undefined): void
  /** Sets the rate of all bodies together, in bytes per second; undefined: as fast as it goes. */
  setRate(bytesPerSecond: number | undefined): void
  /** Stops listening and cuts all connections: the origin is gone. */
  stop(): Promise<void>
}

/** True for GETs of blobs. */
export function isBlobGet(request: MeteredRequest): boolean {
  return request.method === 'GET' && request.path.includes('/blobs/sha256:')
}

const HOP_BY_HOP = ['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'proxy-connection']

/** Starts a meter in front of `target`, a `127.0.0.1:port`. */
export async function startMeter(lab: Lab, target: string): Promise<Meter> {
  const agent = new Agent({ keepAlive: true })
  const [host, port] = target.split(':')
  let requests: MeteredRequest[] = []
  let rule: FaultRule | undefined
  let ruleIndex = 0
  let rate: number | undefined
  let freeAt = 0

  const throttle = async (bytes: number) => {
    if (rate === undefined) return
    const now = performance.now()
    freeAt = Math.max(now, freeAt) + (bytes / rate) * 1000
    if (freeAt - now > 5) await delay(freeAt - now)
  }

  const send = async (
    source: IncomingMessage,
    response: ServerResponse,
    entry: MeteredRequest,
    fault?: Fault,
  ) => {
    const headers = Object.fromEntries(
      Object.entries(source.headers).filter(([name]) => !HOP_BY_HOP.includes(name)),
    )
    const length = Number(headers['content-length'] ?? Number.NaN)
    if (fault?.kind === 'truncate' && length > fault.afterBytes) {
      headers['content-length'] = String(fault.afterBytes)
    }
    if (fault?.kind === 'ignore-range') delete headers['accept-ranges']
    entry.status = source.statusCode ?? 502
    response.writeHead(entry.status, headers)
    const cut =
      fault?.kind === 'stall' || fault?.kind === 'reset' || fault?.kind === 'truncate'
        ? fault.afterBytes
        : Infinity
    response.flushHeaders()
    let wake = () => {}
    response.on('drain', () => wake()).on('close', () => wake())
    const writable = () =>
      new Promise<void>(resolve => {
        wake = resolve
        if (response.destroyed || !response.writableNeedDrain) resolve()
      })
    for await (const chunk of source as AsyncIterable<Buffer>) {
      const left = cut - entry.bodyBytes
      const piece = chunk.length > left ? chunk.subarray(0, left) : chunk
      const wrong = fault?.kind === 'corrupt' ? fault.atByte - entry.bodyBytes : -1
      if (wrong >= 0 && wrong < piece.length) piece[wrong]! ^= 1
      await throttle(piece.length)
      if (response.destroyed) return
      entry.bodyBytes += piece.length
      if (piece.length > 0 && !response.write(piece)) await writable()
      if (response.destroyed) return
      if (entry.bodyBytes >= cut) {
        if (fault?.kind === 'reset') response.socket?.resetAndDestroy()
        if (fault?.kind === 'truncate') response.end()
        if (fault?.kind === 'stall') await once(response, 'close')
        return
      }
    }
    response.end()
  }

  let reads = 0
  let peakReads = 0
  const server = createServer((request, response) => {
    const entry: MeteredRequest = {
      method: request.method ?? 'GET',
      path: request.url ?? '/',
      range: request.headers.range,
      bodyBytes: 0,
      status: 0,
    }
    requests.push(entry)
    if (isBlobGet(entry)) {
      peakReads = Math.max(peakReads, ++reads)
      response.once('close', () => reads--)
    }
    const fault = rule?.(entry, ruleIndex++)
    if (fault?.kind === 'status') {
      entry.status = fault.status
      request.resume()
      response.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers })
      response.end('{"errors":[{"code":"UNAVAILABLE","message":"made to fail by the test"}]}')
      return
    }
    const headers = { ...request.headers }
    for (const name of HOP_BY_HOP) delete headers[name]
    if (fault?.kind === 'ignore-range') delete headers['range']
    const upstream = httpRequest({
      host,
      port,
      agent,
      method: entry.method,
      path: entry.path,
      headers,
    })
    response.once('close', () => upstream.destroy())
    upstream.once('error', () => response.destroy())
    upstream.once('response', source => {
      source.once('error', () => response.destroy())
      send(source, response, entry, fault).catch(() => response.destroy())
    })
    request.pipe(upstream)
  })
  server.requestTimeout = 0
  let connections = 0
  let peakConnections = 0
  server.on('connection', socket => {
    peakConnections = Math.max(peakConnections, ++connections)
    socket.once('close', () => connections--)
  })
  const listening = await listen(lab, server)
  lab.defer(() => agent.destroy())
  return {
    address: `127.0.0.1:${listening}`,
    url: `http://127.0.0.1:${listening}`,
    get requests() {
      return requests
    },
    bodyBytes: (filter = () => true) =>
      requests.filter(filter).reduce((sum, request) => sum + request.bodyBytes, 0),
    get peakConnections() {
      return peakConnections
    },
    get peakReads() {
      return peakReads
    },
    reset() {
      requests = []
      peakReads = reads
      peakConnections = connections
    },
    setFault(next) {
      rule = next
      ruleIndex = 0
    },
    setRate(next) {
      rate = next
      freeAt = 0
    },
    stop: () => closeServer(server),
  }
}
