import {
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request as httpRequest,
  type ServerResponse,
} from 'node:http'

/** Passes a request on to a `host:port` that speaks HTTP, and its answer back. `as` replaces parts of the request. */
export function relay(
  request: IncomingMessage,
  response: ServerResponse,
  target: string,
  as: { readonly path?: string; readonly headers?: OutgoingHttpHeaders } = {},
): void {
  const [host, port] = target.split(':')
  const { method, url: path, headers } = request
  const onward = httpRequest({ host, port, method, path, headers, ...as })
  onward.once('error', () => response.destroy())
  onward.once('response', answer => {
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    answer.pipe(response)
  })
  request.pipe(onward)
}
