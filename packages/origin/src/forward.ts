import { Readable } from 'node:stream'
import { ociErrorBody } from '@darter/oci'
import type { ForwardRequest, ForwardResponse } from './contract.ts'
import type { Headers } from './errors.ts'
import { endToEnd, textOf } from './headers.ts'
import type { UpstreamClient } from './upstream-client.ts'

const NAME_AND_REST = /^(.+?)\/(?:manifests|blobs|tags|referrers)(?:\/|$)/

/** Passes requests on to an upstream, bodies streamed both ways. */
export function createForwarder(options: {
  readonly upstream: URL
  readonly client: UpstreamClient
  /** How long the upstream may take to answer a write, in ms: it may have a large upload to check. */
  readonly patienceMs: number
}): (request: ForwardRequest) => Promise<ForwardResponse> {
  const { upstream, client, patienceMs } = options

  return async request => {
    const { method, path, signal } = request
    if (!staysBelow(path)) return badPath()
    const scope = scopeOf(method, path)
    const headers = endToEnd(request.headers)
    headers['via'] = client.via(textOf(headers['via']))
    const reads = method === 'GET' || method === 'HEAD'
    const hop = {
      method,
      url: client.urlOf(path),
      kind: 'forward' as const,
      headers,
      ...(!reads && { patienceMs }),
      signal,
    }
    const vouch = request.vouch ?? true
    if (!request.body) return passBack(await (vouch ? client.send(hop, scope, true) : client.sendAsIs(hop)))

    // A streamed body cannot be sent twice, so that a challenge is asked for beforehand.
    if (vouch && headers['authorization'] === undefined)
      await client.learnChallenge(scope, headers['via'], signal)
    const body = Readable.from(request.body, { objectMode: false, highWaterMark: 64 * 1024 })
    const streamed = { ...hop, body }
    return passBack(await (vouch ? client.send(streamed, scope, false) : client.sendAsIs(streamed)))
  }

  function passBack(answer: Awaited<ReturnType<UpstreamClient['send']>>): ForwardResponse {
    return { status: answer.status, headers: rewritten(answer.headers, answer.url), body: answer.watch() }
  }

  function rewritten(headers: Headers, requested: URL): Headers {
    const changed: Record<string, string | string[]> = { ...headers }
    const location = textOf(headers['location'])
    if (location !== '') changed['location'] = relative(location, requested)
    const link = textOf(headers['link'])
    if (link !== '')
      changed['link'] = link.replace(/<([^>]*)>/g, (_, to: string) => `<${relative(to, requested)}>`)
    return changed
  }

  /** A place at the upstream as a path below `/v2/`; any other as it is. */
  function relative(place: string, requested: URL): string {
    if (!URL.canParse(place, requested.href)) return place
    const target = new URL(place, requested)
    const prefix = upstream.pathname.replace(/\/$/, '')
    // The scheme does not count: a registry behind a TLS proxy often names itself by http.
    if (target.host !== upstream.host || !target.pathname.startsWith(`${prefix}/v2/`)) return place
    return target.pathname.slice(prefix.length) + target.search
  }
}

/** Whether a path, however it is encoded, has no dot segments that lead out of `/v2/`. */
function staysBelow(path: string): boolean {
  // Reading a URL drops tabs and line ends, which could hide the segments until then.
  if (!/^[!-~]*$/.test(path)) return false
  const [plain = ''] = path.split(/[?#]/, 1)
  try {
    return !decodeURIComponent(plain)
      .split(/[/\\]/)
      .some(part => part === '.' || part === '..')
  } catch {
    return false
  }
}

function badPath(): ForwardResponse {
  const body = JSON.stringify(ociErrorBody('NAME_INVALID', 'the path is malformed or leads out of /v2/'))
  const bytes = new TextEncoder().encode(body)
  const headers = { 'content-type': 'application/json', 'content-length': String(bytes.byteLength) }
  return { status: 400, headers, body: Readable.from([bytes]) }
}

/** The token scope that a request needs (distribution's token scope documentation). */
function scopeOf(method: string, path: string): string {
  const url = new URL(`http://upstream/${path}`)
  if (url.pathname === '/_catalog') return 'registry:catalog:*'
  const name = NAME_AND_REST.exec(url.pathname.slice(1))?.[1]
  if (name === undefined) return ''
  const actions = method === 'GET' || method === 'HEAD' ? 'pull' : 'pull,push'
  const own = `repository:${name}:${method === 'DELETE' ? 'pull,push,delete' : actions}`
  const mounted = url.searchParams.get('from')
  return mounted ? `${own} repository:${mounted}:pull` : own
}
