export { loadToken } from '@darter/exchange'
export * from './config.ts'
export {
  parsePreheatScope,
  type PreheatedPeer,
  type PreheatRequest,
  type PreheatView,
} from './preheats.ts'
export { createScheduler, type Scheduler, type SchedulerAddresses } from './scheduler.ts'
