import { OriginProtocolError, OriginRedirectError } from './errors.ts'
import { textOf } from './headers.ts'
import type { Answer, HopRequest } from './transport.ts'

const REDIRECTS = new Set([301, 302, 303, 307, 308])
const MAX_REDIRECTS = 5

/**
 * Sends a request and follows where its answers lead (RFC 9110 15.4), at most {@link MAX_REDIRECTS} times and never from
 * https to http.
 * @param options.secrets - names of headers that stay behind as soon as another host is asked, and are not taken up again.
 * @param options.onRedirect - sees each redirect before it is followed; `stop`: the redirect itself is the answer.
 * @throws {OriginRedirectError} {@link OriginProtocolError}, and what `send` throws.
 */
export async function followRedirects(options: {
  readonly hop: HopRequest
  readonly send: (hop: HopRequest) => Promise<Answer>
  readonly secrets: ReadonlySet<string>
  readonly onRedirect?: (answer: Answer) => 'follow' | 'stop'
}): Promise<Answer> {
  const { hop, send, secrets, onRedirect } = options
  const plain = Object.fromEntries(Object.entries(hop.headers).filter(([name]) => !secrets.has(name)))
  let { url, headers } = hop
  for (let hops = 0; ; hops++) {
    const answer = await send({ ...hop, url, headers })
    if (!REDIRECTS.has(answer.status)) return answer
    if (onRedirect?.(answer) === 'stop') return answer
    await answer.discard()
    if (hops === MAX_REDIRECTS) {
      throw new OriginRedirectError(`${answer.subject} redirected more than ${MAX_REDIRECTS} times`)
    }
    const target = targetOf(answer)
    if (target.protocol !== 'https:' && !(target.protocol === 'http:' && hop.url.protocol === 'http:')) {
      throw new OriginRedirectError(
        `${answer.subject} redirected from https to ${target.protocol}//${target.host}`,
      )
    }
    // Once dropped they stay dropped, even if the way leads back.
    if (target.origin !== url.origin) headers = plain
    url = target
  }
}

function targetOf(answer: Answer): URL {
  const location = textOf(answer.headers['location'])
  if (location === '' || !URL.canParse(location, answer.url.href)) {
    throw new OriginProtocolError(`${answer.subject} redirected without saying where to`)
  }
  return new URL(location, answer.url)
}
