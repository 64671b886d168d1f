export * from './contract.ts'
export { type ControlServerOptions, createControlServer } from './control-server.ts'
export * from './errors.ts'
export { createExchange, type ExchangeLimits, type ExchangeOptions } from './exchange.ts'
export type { ExchangeHooks } from './hooks.ts'
export {
  type Identity,
  loadClusterKey,
  loadOrCreateClusterKey,
  loadOrCreateIdentity,
  loadOrCreateToken,
  loadToken,
  loadOrCreateSecret,
} from './identity.ts'
