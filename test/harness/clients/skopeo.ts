import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Finished, type Lab, run } from '@darter/testing'
import { allDigests, assertHasAll, digestsOfFiles } from '../expect.ts'
import type { Image } from '../images.ts'
import type { Login, Mirror } from '../mirror.ts'

let count = 0

/**
 * `skopeo copy --all` into a new directory, with every file's digest checked against the image (skopeo checks them
 * too, so that a measurement may leave the second look out).
 */
export async function pullWithSkopeo(
  lab: Lab,
  mirror: Mirror,
  repository: string,
  reference: string,
  image: Image,
  options: { readonly login?: Login; readonly verify?: boolean } = {},
): Promise<void> {
  const dir = lab.makeDir(`skopeo-${++count}`)
  await skopeoCopy(lab, `docker://${name(mirror, repository, reference)}`, `dir:${dir}`, options)
  if (options.verify !== false) assertHasAll(await digestsOfFiles(dir), allDigests(image), 'skopeo')
  rmSync(dir, { recursive: true })
}

/** Copies an image layout to a registry. */
export async function pushWithSkopeo(
  lab: Lab,
  mirror: Mirror,
  repository: string,
  tag: string,
  image: Image,
  options: { readonly login?: Login } = {},
): Promise<void> {
  await skopeoCopy(lab, `oci:${image.dir}:latest`, `docker://${name(mirror, repository, tag)}`, options)
}

function name(mirror: Mirror, repository: string, reference: string): string {
  const separator = reference.startsWith('sha256:') ? '@' : ':'
  return `${mirror.address}/${mirror.prefix}${repository}${separator}${reference}`
}

/** `skopeo copy --all --preserve-digests` without TLS. */
export async function skopeoCopy(
  lab: Lab,
  from: string,
  to: string,
  options: { readonly login?: Login; readonly codes?: readonly number[] | 'any' } = {},
): Promise<Finished> {
  const policy = join(lab.dir, 'policy.json')
  writeFileSync(policy, '{"default":[{"type":"insecureAcceptAnything"}]}')
  const authFile = join(lab.dir, 'skopeo-auth.json')
  writeFileSync(authFile, '{}')
  const side = from.startsWith('docker:') ? 'src' : 'dest'
  const login = options.login
  const tls = [from, to].flatMap((end, i) =>
    end.startsWith('docker:') ? [`--${['src', 'dest'][i]}-tls-verify=false`] : [],
  )
  return run(
    'skopeo',
    [
      '--policy',
      policy,
      'copy',
      '--all',
      '--preserve-digests',
      '--quiet',
      ...tls,
      ...(login === undefined
        ? [`--${side}-no-creds`]
        : [`--${side}-creds`, `${login.username}:${login.password}`]),
      from,
      to,
    ],
    {
      env: { XDG_RUNTIME_DIR: lab.dir, REGISTRY_AUTH_FILE: authFile },
      ...(options.codes === undefined ? {} : { codes: options.codes }),
    },
  )
}
