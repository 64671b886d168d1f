import { createPrivateKey, createSign, randomUUID, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { type Lab, run } from '@darter/testing'
import { listen } from './listen.ts'

/** A user of a {@link TokenServer}: the repositories that are open to it. */
export interface TokenUser {
  readonly password: string
  readonly repositories: readonly string[]
}

/** Issues Bearer tokens as the distribution project's token authentication has it (GET, and POST as OAuth 2). */
export interface TokenServer {
  readonly url: string
  readonly service: string
  readonly issuer: string
  /** PEM of the self-signed certificate whose key signs the tokens. */
  readonly certificateFile: string
  /** How many tokens were asked for. */
  readonly requests: number
}

const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

async function body(request: IncomingMessage): Promise<URLSearchParams> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return new URLSearchParams(text)
}

/** Starts a token server with a key of its own. Unknown callers get tokens without any right. */
export async function startTokenServer(
  lab: Lab,
  users: Readonly<Record<string, TokenUser>>,
): Promise<TokenServer> {
  const dir = lab.makeDir('token-server')
  const keyFile = join(dir, 'key.pem')
  const certificateFile = join(dir, 'cert.pem')
  await run('openssl', [
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=darter-test',
    '-keyout',
    keyFile,
    '-out',
    certificateFile,
  ])
  const key = createPrivateKey(readFileSync(keyFile))
  const certificate = new X509Certificate(readFileSync(certificateFile)).raw.toString('base64')
  const service = 'darter-test-registry'
  const issuer = 'darter-test-issuer'
  let requests = 0

  const issue = (user: string | undefined, scopes: readonly string[]) => {
    const rights = user === undefined ? [] : (users[user]?.repositories ?? [])
    const access = scopes.flatMap(scope => {
      const [type, name, actions] = scope.split(':')
      return type === 'repository' && name !== undefined && rights.includes(name)
        ? [{ type, name, actions: (actions ?? '').split(',') }]
        : []
    })
    const now = Math.floor(Date.now() / 1000)
    const times = { iat: now, nbf: now - 10, exp: now + 300 }
    const head = base64url({ typ: 'JWT', alg: 'RS256', x5c: [certificate] })
    const claims = base64url({
      iss: issuer,
      sub: user ?? '',
      aud: service,
      jti: randomUUID(),
      access,
      ...times,
    })
    const signature = createSign('RSA-SHA256').update(`${head}.${claims}`).sign(key).toString('base64url')
    return `${head}.${claims}.${signature}`
  }

  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    requests++
    const query =
      request.method === 'POST'
        ? await body(request)
        : new URL(request.url ?? '/', 'http://token').searchParams
    let user = query.get('username') ?? undefined
    let password = query.get('password') ?? ''
    const basic = /^Basic (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
    if (basic !== undefined) {
      const text = Buffer.from(basic, 'base64').toString('utf8')
      user = text.slice(0, text.indexOf(':'))
      password = text.slice(text.indexOf(':') + 1)
    }
    if (user !== undefined && users[user]?.password !== password) {
      response.writeHead(401, { 'content-type': 'application/json' })
      response.end('{"details":"incorrect username or password"}')
      return
    }
    const token = issue(
      user,
      query.getAll('scope').flatMap(scope => scope.split(' ')),
    )
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(
      JSON.stringify({ token, access_token: token, expires_in: 300, issued_at: new Date().toISOString() }),
    )
  }
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy())
  })
  const port = await listen(lab, server)
  return {
    url: `http://127.0.0.1:${port}/token`,
    service,
    issuer,
    certificateFile,
    get requests() {
      return requests
    },
  }
}
