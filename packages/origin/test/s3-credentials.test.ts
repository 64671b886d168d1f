import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createSharedCredentialsSource, OriginCredentialsError } from '@darter/origin'

test('a profile is read as AWS tools write it, and again when the file changes', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'darter-s3-'))
  t.after(() => rm(dir, { recursive: true }))
  const file = join(dir, 'credentials')
  const write = (secret: string) =>
    writeFile(
      file,
      [
        '# comment',
        '[default]',
        'aws_access_key_id = AKIADEFAULT',
        'aws_secret_access_key = other/+=',
        '[ team.one ]',
        `  aws_access_key_id=AKIATEAM`,
        `aws_secret_access_key = ${secret}`,
        'aws_session_token = token==',
        'region = nowhere',
        '[empty]',
        '',
      ].join('\r\n'),
    )
  await write('first/+=')
  const source = createSharedCredentialsSource({ file, profile: 'team.one' })
  const found = { accessKeyId: 'AKIATEAM', sessionToken: 'token==' }
  assert.deepEqual(await source(), { ...found, secretAccessKey: 'first/+=' })
  await write('second, longer/+=')
  assert.deepEqual(await source(), { ...found, secretAccessKey: 'second, longer/+=' })
  for (const profile of ['empty', 'missing', 'team']) {
    await assert.rejects(createSharedCredentialsSource({ file, profile })(), OriginCredentialsError)
  }
  const none = createSharedCredentialsSource({ file: join(dir, 'none'), profile: 'default' })
  await assert.rejects(none(), OriginCredentialsError)
})
