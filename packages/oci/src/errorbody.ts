/** The error codes of OCI distribution-spec 1.1, "Error Codes", and the ones that registries commonly add. */
export type OciErrorCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DIGEST_INVALID'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'SIZE_INVALID'
  | 'UNAUTHORIZED'
  | 'DENIED'
  | 'UNSUPPORTED'
  | 'TOOMANYREQUESTS'
  | 'TAG_INVALID'
  | 'RANGE_INVALID'
  | 'UNAVAILABLE'
  | 'UNKNOWN'

/** The JSON body of a registry's error answer. */
export interface OciErrorBody {
  readonly errors: readonly {
    readonly code: OciErrorCode
    readonly message: string
    readonly detail?: unknown
  }[]
}

/** The body of an error answer with one error (OCI distribution-spec 1.1, "Error Codes"). */
export function ociErrorBody(code: OciErrorCode, message: string, detail?: unknown): OciErrorBody {
  return { errors: [detail === undefined ? { code, message } : { code, message, detail }] }
}
