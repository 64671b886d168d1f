/** How long a handshake may take, from the first byte to admission, in ms. */
export const HANDSHAKE_MS = 5000
