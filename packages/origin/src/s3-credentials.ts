import { readFile, stat } from 'node:fs/promises'
import { quoted } from '@darter/oci'
import { OriginCredentialsError } from './errors.ts'

/** What signs requests to an object store (AWS Signature Version 4). */
export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** For temporary credentials. */
  readonly sessionToken?: string | undefined
}

/**
 * Finds them; undefined for none. Asked for each request.
 * @throws {OriginCredentialsError} when they are configured and cannot be had.
 */
export type S3CredentialSource = () => Promise<S3Credentials | undefined>

/**
 * Reads a profile of a shared credentials file, as AWS tools do; again when the file changes, so that whatever renews
 * temporary credentials there is heard.
 */
export function createSharedCredentialsSource(options: {
  readonly file: string
  readonly profile: string
}): S3CredentialSource {
  const { file, profile } = options
  let last: { readonly version: string; readonly credentials: S3Credentials } | undefined
  return async () => {
    try {
      const { mtimeMs, size, ino } = await stat(file)
      const version = `${mtimeMs} ${size} ${ino}`
      if (last?.version === version) return last.credentials
      const found = readProfile(await readFile(file, 'utf8'), profile)
      if (found === undefined) {
        throw new OriginCredentialsError(
          `${file} has no aws_access_key_id and aws_secret_access_key for the profile ${quoted(profile)}`,
        )
      }
      last = { version, credentials: found }
      return found
    } catch (error) {
      if (error instanceof OriginCredentialsError) throw error
      throw new OriginCredentialsError(`the credentials file ${file} cannot be read`, { cause: error })
    }
  }
}

/** The credentials of one `[profile]`: lines of `key = value`; undefined when some are missing. */
function readProfile(text: string, profile: string): S3Credentials | undefined {
  const values = new Map<string, string>()
  let inside = false
  for (const line of text.split(/\r?\n/)) {
    const section = /^\s*\[\s*([^\]]+?)\s*\]/.exec(line)?.[1]
    if (section !== undefined) inside = section === profile
    const [, key, value] = /^\s*([A-Za-z_]+)\s*=\s*(.*?)\s*$/.exec(line) ?? []
    if (inside && key !== undefined && value !== undefined) values.set(key.toLowerCase(), value)
  }
  const accessKeyId = values.get('aws_access_key_id')
  const secretAccessKey = values.get('aws_secret_access_key')
  if (!accessKeyId || !secretAccessKey) return undefined
  return { accessKeyId, secretAccessKey, sessionToken: values.get('aws_session_token') }
}
