export * from './admin.ts'
export { createRegistryDoor, type DoorAddress } from './registry-door.ts'
export { createDoorMetrics } from './request-record.ts'
