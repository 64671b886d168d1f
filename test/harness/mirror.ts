/**
 * Where a client is told to find an upstream's images: a registry itself or a mirror of it. Tests are written
 * against this, so that the same test can be proved without a mirror in between.
 */
export interface Mirror {
  /** `127.0.0.1:port` */
  readonly address: string
  /** Put before the repository name in the path form, such as `registry.test/`; '' for a registry itself. */
  readonly prefix: string
}

/** The host name that the tests' upstream goes by. It resolves nowhere. */
export const UPSTREAM = 'registry.test'

/** A user's name and password. */
export interface Login {
  readonly username: string
  readonly password: string
}

/** A login as an `Authorization` header. */
export function basic(login: Login): string {
  return `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`
}
