import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { join } from 'node:path'
import { type Lab, run } from '@darter/testing'
import { listen } from './listen.ts'
import { relay } from './relay.ts'

/** A server that speaks TLS for one that does not. */
export interface TlsFront {
  /** `127.0.0.1:port` */
  readonly address: string
  /** PEM file of the certificate that it is verified with. */
  readonly caFile: string
  /** How many requests it passed on. */
  readonly requests: number
}

/** Starts a TLS server, certified for `name` and 127.0.0.1, before a `127.0.0.1:port`. Needs `openssl`. */
export async function startTlsFront(lab: Lab, name: string, target: string): Promise<TlsFront> {
  const dir = lab.makeDir(`tls-${name}`)
  const [keyFile, caFile] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', '/CN=darter-test', '-addext', `subjectAltName=DNS:${name},IP:127.0.0.1`],
    ...['-keyout', keyFile, '-out', caFile],
  ])
  let requests = 0
  const server = createServer(
    { key: readFileSync(keyFile), cert: readFileSync(caFile) },
    (request, response) => {
      requests++
      relay(request, response, target)
    },
  )
  return {
    address: `127.0.0.1:${await listen(lab, server)}`,
    caFile,
    get requests() {
      return requests
    },
  }
}
