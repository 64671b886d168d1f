import { DEFAULT_UPSTREAMS } from './config/upstreams.ts'
import { flagOf, optionRows, variableOf } from './config/schema.ts'

const PREAMBLE = `<!-- Generated from packages/cli/src/config/schema.ts by \`npm run docs\`; do not edit. -->

# Options

Every option can be given as a flag, as an environment variable, or as a key in a YAML file; the first of these that
has it wins, then comes the default. The file is the one that \`--config\` or \`DARTER_CONFIG\` names, else \`./darter.yaml\`
or \`/etc/darter/darter.yaml\` where there is one. A key's dots are levels in the file:

\`\`\`yaml
door:
  port: 5001
upstreams:
  - name: docker.io
    url: https://mirror.example.com
    username: reader
    password-file: /etc/darter/mirror.password
\`\`\`

An unknown key or variable, or a value that is not allowed, stops the program with exit code 2 and a line that names the
key, the value, where it came from and what is allowed. \`darter config\` prints the effective values.

An option with \`[]\` may be given many times: repeat the flag, put commas between the values of the environment variable,
write a list in the file. Relative paths in a file start at the file's directory. \`--no-...\` turns a switch off. For
the variable, write \`true\` or \`false\`.

Sizes take IEC units (\`256MiB\`), durations \`ms\`, \`s\`, \`m\`, \`h\` and \`d\` (\`1h30m\`), rates bits (\`100mbit\`) or a size per
second (\`20MiB/s\`).

The variables that Kubernetes puts into every container for a Service whose name begins with \`darter\` are ignored.
`

const UPSTREAMS = `## An upstream in the file

As a flag, an upstream is \`NAME=URL\`. In the file it may be such text too, or a map:

| Key | Meaning |
| --- | --- |
| \`name\` | As clients say it in a path (\`/v2/NAME/...\`) or in \`?ns=NAME\`: lower case, a port is allowed. |
| \`url\` | \`https://HOST[:PORT][/PATH]\`, certificates verified; \`http://...\` for a registry without TLS; \`oci-layout:DIRECTORY\` for an OCI image layout on disk; \`s3://BUCKET[/PREFIX]\` for a bucket that is read by URLs. |
| \`hosts\` | Other names that clients use for it. Without this key, those of the default list for the name. |
| \`ca\` | PEM file with the certificate authorities to trust instead of the system's. |
| \`username\` | For callers that bring no credentials of their own. For a bucket, the id of the access key. |
| \`password\` | The password, or secret access key, that belongs to it. Masked wherever the configuration is shown. |
| \`password-file\` | A file whose first line is the password, instead of \`password\`. |
| \`docker-config\` | A docker \`config.json\` for this upstream alone. |
| \`max-connections\` | Connections to one host of it at the same moment, 1 to 1024 (default 32); more requests wait, up to 30 s. |
| \`endpoint\` | For a bucket: \`https://HOST[:PORT]\` of the object store. Without it \`AWS_ENDPOINT_URL_S3\`, \`AWS_ENDPOINT_URL\`, else Amazon's. |
| \`region\` | For a bucket. Without it \`AWS_REGION\`, \`AWS_DEFAULT_REGION\`, else \`us-east-1\`. |
| \`path-style\` | For a bucket: \`true\` puts its name into the path, \`false\` before the host. Without it: \`true\` where there is an endpoint or the name has a dot. |
| \`profile\`, \`credentials-file\` | For a bucket: whose credentials in which shared credentials file. Without them and \`username\`: \`AWS_ACCESS_KEY_ID\` and its kind, else \`~/.aws/credentials\` if it is there, else requests are not signed. |
| \`public\` | \`true\`: whoever reaches the door may read what is cached, without asking the upstream. Always so for a directory. |

The default list:

| Name | URL | Other names |
| --- | --- | --- |
`

const cell = (text: string) => text.replaceAll('|', '\\|')

/** The text of docs/reference/options.md. */
export function referenceText(): string {
  const groups = Map.groupBy(optionRows(), ([, row]) => row.group)
  const sections = [...groups].map(([group, rows]) => {
    const entries = rows.map(([key, row]) => {
      const flag = flagOf(key, row)
      const written =
        row.type.placeholder === ''
          ? `${flag}, ${flag.replace('--', '--no-')}`
          : `${flag} ${row.type.placeholder}`
      return [
        `### \`${key}${row.type.many === true ? '[]' : ''}\``,
        row.description,
        [
          `- flag: \`${written}\``,
          `- environment: \`${variableOf(key)}\``,
          `- allowed: ${row.type.allowed}`,
          `- default: ${row.defaultText === '' ? 'empty' : row.defaultText}`,
          `- for: ${row.programs.join(', ')}`,
        ].join('\n'),
      ].join('\n\n')
    })
    return `## ${group}\n\n${entries.join('\n\n')}\n`
  })
  const known = DEFAULT_UPSTREAMS.map(({ name, target, hosts = [] }) => {
    const url = target.kind === 'registry' ? target.url : ''
    return `| \`${name}\` | \`${cell(url)}\` | ${hosts.map(host => `\`${host}\``).join(', ')} |`
  })
  return `${[PREAMBLE, ...sections].join('\n')}\n${UPSTREAMS}${known.join('\n')}\n`
}
