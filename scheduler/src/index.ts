export * from './config.ts'
export { createScheduler, type Scheduler, type SchedulerAddresses } from './scheduler.ts'
