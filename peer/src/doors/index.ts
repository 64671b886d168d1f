export * from './admin.ts'
export {
  createRegistryDoor,
  type DoorAddress,
  type RegistryDoor,
  type RegistryDoorOptions,
} from './registry-door.ts'
export { createDoorMetrics, type DoorMetrics } from './request-record.ts'
