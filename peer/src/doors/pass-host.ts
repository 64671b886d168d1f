import type { IncomingMessage } from 'node:http'
import type { HostForwarder } from '@darter/origin'
import { type ClientRequest, headerOf } from './exchange.ts'
import { bodyOf, forwardedHeaders } from './pass-on.ts'
import { sendOrCut } from './send-read.ts'

/**
 * Passes a request that is none of a registry's on to the host that it names, and the answer back as it is: a token
 * service, an object store. Headers that a client may have signed stay as they were.
 * @param target - path and query at the host.
 */
export async function passHost(
  client: ClientRequest,
  target: string,
  host: HostForwarder,
  onBodyWanted: (request: IncomingMessage) => void,
): Promise<void> {
  const { request, record, signal } = client
  const encoding = headerOf(request, 'accept-encoding')
  const answer = await host.forward({
    method: record.method,
    path: target,
    headers: { ...forwardedHeaders(request), ...(encoding !== undefined && { 'accept-encoding': encoding }) },
    body: bodyOf(request, onBodyWanted),
    signal,
  })
  await sendOrCut(client, client.begin(answer.status, answer.headers), answer.body, undefined)
}
