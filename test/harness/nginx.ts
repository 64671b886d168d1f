import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, httpStatus, type Lab } from '@darter/testing'
import type { Login } from './mirror.ts'

/** A real web server (nginx) with a directory of files. */
export interface FileServer {
  /** `127.0.0.1:port` */
  readonly address: string
  readonly url: string
  /** Puts a file there; `path` such as `models/a.bin`. Another content gets another entity tag. */
  put(path: string, bytes: Uint8Array): void
}

/** Starts nginx. What lies below `private/` wants the login. */
export async function startFileServer(lab: Lab, options: { readonly login: Login }): Promise<FileServer> {
  const dir = lab.makeDir('nginx')
  const root = join(dir, 'root')
  mkdirSync(join(root, 'private'), { recursive: true })
  const port = await freePort()
  const passwords = join(dir, 'passwords')
  writeFileSync(passwords, `${options.login.username}:{PLAIN}${options.login.password}\n`)
  const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `  ${name}_temp_path ${join(dir, name)};`,
  )
  const config = join(dir, 'nginx.conf')
  writeFileSync(
    config,
    `daemon off;
master_process off;
pid ${join(dir, 'pid')};
events {}
http {
  access_log off;
${places.join('\n')}
  server {
    listen 127.0.0.1:${port};
    root ${root};
    location /private/ { auth_basic "files"; auth_basic_user_file ${passwords}; }
  }
}
`,
  )
  const url = `http://127.0.0.1:${port}`
  await lab.start({
    name: 'nginx',
    command: 'nginx',
    args: ['-p', dir, '-e', join(dir, 'error.log'), '-c', config],
    ready: async () => (await httpStatus(`${url}/nothing`)) === 404,
  })
  return {
    address: `127.0.0.1:${port}`,
    url,
    put: (path, bytes) => {
      mkdirSync(join(root, path, '..'), { recursive: true })
      writeFileSync(join(root, path), bytes)
    },
  }
}
