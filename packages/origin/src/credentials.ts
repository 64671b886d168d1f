/** What a caller without credentials of its own is vouched for with. */
export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, as `docker login` keeps it. */
  | { readonly kind: 'identityToken'; readonly token: string }
  /** Only tokens that a token server hands to everybody, as public registries want them. */
  | { readonly kind: 'anonymous' }

/**
 * Finds the credentials for an upstream; undefined for none. Asked each time that they are needed.
 * @throws {OriginCredentialsError} when they are configured and cannot be had.
 */
export type CredentialSource = (signal: AbortSignal) => Promise<Credentials | undefined>

/** The `Authorization` header of the Basic scheme (RFC 7617, in UTF-8). */
export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`
}
